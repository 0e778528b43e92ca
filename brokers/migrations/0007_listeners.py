"""Static members that take over at once, partitions to be read with care, and the commit of a listener."""

from django.db import migrations

from brokers.migrations import _listener_functions
from brokers.migrations._installing import run


class Migration(migrations.Migration):
    dependencies = [("brokers", "0006_failures")]

    operations = [migrations.RunPython(run(_listener_functions.FORWARD), run(_listener_functions.REVERSE))]
