"""Installs the stored functions of the topic log and the unlogged table of staged batches."""

from django.db import migrations

from brokers.migrations import _log_functions


def run(statements):
    def execute(apps, schema_editor):
        with schema_editor.connection.cursor() as cursor:
            cursor.execute("select quote_ident(current_schema())")
            schema = cursor.fetchone()[0]
            for statement in statements:
                cursor.execute(statement.format(schema=schema))

    return execute


class Migration(migrations.Migration):
    dependencies = [("brokers", "0001_initial")]

    operations = [migrations.RunPython(run(_log_functions.FORWARD), run(_log_functions.REVERSE))]
