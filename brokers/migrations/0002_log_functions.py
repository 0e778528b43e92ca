"""Installs the stored functions of the topic log and the unlogged table of staged batches."""

from django.db import migrations

from brokers.migrations import _log_functions
from brokers.migrations._installing import run


class Migration(migrations.Migration):
    dependencies = [("brokers", "0001_initial")]

    operations = [migrations.RunPython(run(_log_functions.FORWARD), run(_log_functions.REVERSE))]
