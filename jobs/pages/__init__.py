"""What admin and dashboard share: how a job is shown, how lists are paged, how a person acts on one.

Neither surface knows the other; both are written on top of this.
"""
