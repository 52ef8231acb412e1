"""Everything that differs between one installation and the next comes from the environment:
DATABASE_URL, SECRET_KEY, DEBUG, ALLOWED_HOSTS, HTTPS, TIME_ZONE."""

from datetime import timedelta
from pathlib import Path

import django

from .environment import boolean, database, hosts, secret_key, time_zone

BASE_DIR = Path(__file__).resolve().parent.parent

DEBUG = boolean("DEBUG", default=False)
HTTPS = boolean("HTTPS", default=False)
SECRET_KEY = secret_key("SECRET_KEY", file=BASE_DIR / ".secret_key", debug=DEBUG)
ALLOWED_HOSTS = hosts("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"], debug=DEBUG)
DATABASES = {"default": database("DATABASE_URL", default=BASE_DIR / "queuectl.sqlite3")}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# In development commands see what the shell that started the worker sees, and the page may do what
# the original's did: take commands, start workers. There is a command template to look at too.
PAUSE = {
    "help": "Wait, and then be done.",
    "argv": ["sleep", "{seconds}"],
    "parameters": {"seconds": {"type": "int", "max": 3600, "default": 5}},
}
QUEUECTL = (
    {
        "COMMAND_ENV": ["*"],
        "COMMAND_POLICY": "shell",
        "COMMANDS": {"pause": PAUSE},
        "START_WORKERS_FROM_WEB": True,
    }
    if DEBUG
    else {}
)

INSTALLED_APPS = [
    "jobs",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "axes",
]

# On Django 5.2 tasks come with a package, which is an app.
if django.VERSION < (6,):
    INSTALLED_APPS.append("django_tasks")

TASKS = {"default": {"BACKEND": "jobs.backend.QueueCTLBackend", "QUEUES": []}}

MIDDLEWARE = [
    "queuectl_project.headers.strict_headers",
    "jobs.pages.charset.only_utf_8",
    "django.middleware.security.SecurityMiddleware",
    "queuectl_project.staticfiles.StaticFilesMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
    "jobs.pages.trouble.DatabaseTrouble",
]

ROOT_URLCONF = "queuectl_project.urls"
WSGI_APPLICATION = "queuectl_project.wsgi.application"
ASGI_APPLICATION = "queuectl_project.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{validator}"}
    for validator in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "login"

# Ten wrong passwords for a name from an address, and that pair waits. X-Forwarded-For is not looked
# at: whoever sends it could be anybody, every time.
AXES_FAILURE_LIMIT = 10
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_LOCKOUT_CALLABLE = "queuectl_project.login.too_many"
AXES_CLIENT_IP_CALLABLE = "queuectl_project.login.address"
AXES_RESET_ON_SUCCESS = True
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_DISABLE_ACCESS_LOG = True
AXES_ENABLE_ADMIN = False
AXES_VERBOSE = False

LANGUAGE_CODE = "en"
USE_TZ = True
TIME_ZONE = time_zone("TIME_ZONE", default="UTC")

STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
STATICFILES_DIRS = [BASE_DIR / "queuectl_project" / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "queuectl_project.staticfiles.StaticFilesStorage"},
}
WHITENOISE_USE_FINDERS = DEBUG or not (STATIC_ROOT / "staticfiles.json").exists()

if HTTPS:
    SECURE_SSL_REDIRECT = True
    # TLS ends at a proxy, which must set this header itself and drop what a client sent.
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SESSION_COOKIE_SECURE = True
    CSRF_COOKIE_SECURE = True
    SECURE_HSTS_SECONDS = 30 * 24 * 3600
    # One host's promise: subdomains and the browsers' preload list are the domain owner's.
    SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "short": {
            "()": "jobs.logs.Formatter",
            "fmt": "{asctime} {levelname} {name}: {message}",
            "datefmt": "%H:%M:%S",
            "style": "{",
        },
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "short"}},
    "loggers": {
        "jobs": {"handlers": ["stderr"], "level": "INFO"},
        # Below that there are two lines a task.
        "django.tasks": {"handlers": ["stderr"], "level": "WARNING"},
        "django_tasks": {"handlers": ["stderr"], "level": "WARNING"},
        # Its own handler would give a terminal what anybody puts into an address.
        "django.server": {"handlers": ["stderr"], "level": "INFO", "propagate": False},
        # That a question waits for a thread is nothing; six at once are one browser.
        "waitress.queue": {"handlers": ["stderr"], "level": "ERROR", "propagate": False},
        "waitress": {"handlers": ["stderr"], "level": "WARNING", "propagate": False},
        # Django itself would write a crash down in development only.
        "django.request": {
            "handlers": ["stderr"],
            "level": "WARNING" if DEBUG else "ERROR",
            "propagate": False,
        },
    },
}
