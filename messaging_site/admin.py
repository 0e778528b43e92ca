"""Models of ours with Django's own admin pages; Django imports this module when it starts."""

from __future__ import annotations

from django.contrib import admin

from brokers.models import AlertRule
from messaging_site.console.alert_rules import AlertRuleAdmin

admin.site.register(AlertRule, AlertRuleAdmin)
