"""The table `shedlock`, as ShedLock's documentation has it: column for column, without time zones.

A database that is shared with services that use ShedLock has it already, and then it stays as it is; and since they
may use it, undoing this migration leaves it.
"""

from django.db import migrations, models

import scheduling.models

TABLE = """
create table if not exists shedlock (
    name varchar(64) not null,
    lock_until timestamp not null,
    locked_at timestamp not null,
    locked_by varchar(255) not null,
    primary key (name)
)
"""


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.RunSQL(TABLE, migrations.RunSQL.noop),
        migrations.CreateModel(
            name="ShedLock",
            fields=[
                ("name", models.CharField(max_length=64, primary_key=True, serialize=False)),
                ("lock_until", scheduling.models.UtcTimestampField()),
                ("locked_at", scheduling.models.UtcTimestampField()),
                ("locked_by", models.CharField(max_length=255)),
            ],
            options={"db_table": "shedlock", "managed": False},
        ),
    ]
