import os

from django.core.wsgi import get_wsgi_application

from jobs.pages.charset import OverWSGI

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "queuectl_project.settings")
application = get_wsgi_application()
application.request_class = OverWSGI
