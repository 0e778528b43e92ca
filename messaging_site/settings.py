"""Every Django setting, from the environment, in one file without variants for development and production.

The variables are read and checked in `environment.py`; `docs/operating.md` lists them.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from csp.constants import NONE, SELF
from psycopg.conninfo import conninfo_to_dict

from messaging_site import embedded, environment, mail

BASE_DIR = Path(__file__).resolve().parent.parent
ENVIRONMENT = environment.read(os.environ, BASE_DIR)

SECRET_KEY = environment.secret_key(ENVIRONMENT)
DEBUG = ENVIRONMENT.debug
ALLOWED_HOSTS = list(ENVIRONMENT.allowed_hosts)
DATA_DIR = ENVIRONMENT.data_dir

INSTALLED_APPS = [
    # It only gives `runserver` ASGI, and brings Twisted along: a sixth of the time that a process takes to start.
    *(["daphne"] if "runserver" in sys.argv else []),
    "messaging_site.console.apps.ConsoleConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_htmx",
    "csp",
    "django_celery_beat",
    "messaging_site",
    "brokers.apps.BrokersConfig",
    "scheduling.apps.SchedulingConfig",
    "realtime.apps.RealtimeConfig",
    *ENVIRONMENT.apps,
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "messaging_site.cookies.secure_over_https",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]

ROOT_URLCONF = "messaging_site.urls"
ASGI_APPLICATION = "messaging_site.asgi.application"

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
                "messaging_site.console.navigation.shell",
            ]
        },
    }
]


def database(url: str) -> dict[str, object]:
    """Django's settings for a libpq URI; a socket directory is its percent-encoded host or its `host` parameter."""
    given = conninfo_to_dict(url)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": given.pop("dbname", "postgres"),
        "USER": given.pop("user", ""),
        "PASSWORD": given.pop("password", ""),
        "HOST": given.pop("host", ""),
        "PORT": given.pop("port", ""),
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {"prepare_threshold": 5, **given},
    }


DATABASES = {"default": database(ENVIRONMENT.database_url or embedded.database_url(DATA_DIR))}
REDIS_URL = ENVIRONMENT.redis_url or embedded.redis_url(DATA_DIR)

BROKERS_PROCESSED_DAYS = ENVIRONMENT.processed_days
LIVE_ALLOWED_ORIGINS = ENVIRONMENT.allowed_origins
LIVE_CONNECTIONS_PER_USER = ENVIRONMENT.connections_per_user

EMAIL_HOST, EMAIL_PORT = ENVIRONMENT.mail.host, ENVIRONMENT.mail.port
EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = ENVIRONMENT.mail.user, ENVIRONMENT.mail.password
EMAIL_USE_TLS, EMAIL_USE_SSL = ENVIRONMENT.mail.tls == "starttls", ENVIRONMENT.mail.tls == "tls"
EMAIL_TIMEOUT = mail.TIMEOUT_SECONDS
DEFAULT_FROM_EMAIL = SERVER_EMAIL = ENVIRONMENT.mail_from

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 12},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_I18N = False
USE_TZ = True

STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = None  # WhiteNoise serves what the finders find
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = DEBUG

# Cookies are Secure over HTTPS (`cookies.secure_over_https`; a proxy says so by X-Forwarded-Proto) and not over plain
# HTTP on loopback, where any client must be able to sign in. Elsewhere they are always Secure.
_LOOPBACK = environment.is_loopback(ENVIRONMENT.host)
SECURE_PROXY_SSL_HEADER = None if _LOOPBACK else ("HTTP_X_FORWARDED_PROTO", "https")
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = not _LOOPBACK
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_NAME = f"waystation_session_{ENVIRONMENT.port}"
CSRF_COOKIE_NAME = f"waystation_csrf_{ENVIRONMENT.port}"
SESSION_COOKIE_AGE = 8 * 3600
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
        "base-uri": [NONE],
    }
}

DATA_UPLOAD_MAX_MEMORY_SIZE = 16 * 1024 * 1024
LOGGING_CONFIG = "messaging_site.telemetry.configure_logging"
LOGGING: dict[str, object] = {"version": 1}  # an empty one would never reach `configure_logging`
