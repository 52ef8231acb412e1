"""Django signals for observers. The flow of a job never depends on a receiver.

`job_enqueued` is sent after the INSERT, inside the caller's transaction: sender=Job, keys=[...].
"""

from django.dispatch import Signal

job_enqueued = Signal()
