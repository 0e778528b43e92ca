"""Static members that take over at once, partitions to be read with care, and the commit of a listener."""

from django.db import migrations

from brokers.migrations import _listener_functions


def run(statements):
    def execute(apps, schema_editor):
        with schema_editor.connection.cursor() as cursor:
            cursor.execute("select quote_ident(current_schema())")
            schema = cursor.fetchone()[0]
            for statement in statements:
                cursor.execute(statement.format(schema=schema))

    return execute


class Migration(migrations.Migration):
    dependencies = [("brokers", "0006_failures")]

    operations = [migrations.RunPython(run(_listener_functions.FORWARD), run(_listener_functions.REVERSE))]
