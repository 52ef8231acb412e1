import os

from django.core.asgi import get_asgi_application

from jobs.pages.charset import OverASGI

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "queuectl_project.settings")
application = get_asgi_application()
application.request_class = OverASGI
