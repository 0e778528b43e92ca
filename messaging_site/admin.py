"""Models with Django's own admin pages: ours, and django-celery-beat's in our way. Django imports it when it starts."""

from __future__ import annotations

from django.contrib import admin
from django_celery_beat.models import ClockedSchedule, PeriodicTask, SolarSchedule

from brokers.models import AlertRule
from messaging_site.console.alert_rules import AlertRuleAdmin
from messaging_site.console.periodic_tasks import ClockedScheduleAdmin, PeriodicTaskAdmin

admin.site.register(AlertRule, AlertRuleAdmin)
admin.site.unregister([ClockedSchedule, PeriodicTask, SolarSchedule])
admin.site.register(ClockedSchedule, ClockedScheduleAdmin)
admin.site.register(PeriodicTask, PeriodicTaskAdmin)
