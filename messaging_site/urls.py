"""Django's URLs: the console, the root that leads to it, and pages of apps. The data plane's paths never get here."""

from __future__ import annotations

from django.apps import apps
from django.conf import settings
from django.contrib import admin
from django.urls import include, path
from django.utils.module_loading import module_has_submodule
from django.views.generic import RedirectView

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/", admin.site.urls),
]

# An app of WAYSTATION_APPS that has pages shows them below its label.
urlpatterns += [
    path(f"{app.label}/", include(f"{app.name}.urls"))
    for app in apps.get_app_configs()
    if app.name in settings.ENVIRONMENT.apps and module_has_submodule(app.module, "urls")
]
