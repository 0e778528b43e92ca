"""What is done about delayed flights."""

import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("flights", "0001_initial")]

    operations = [
        migrations.CreateModel(
            name=name,
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("carrier", models.CharField(max_length=10)),
                ("flight", models.IntegerField()),
                ("origin", models.CharField(max_length=10)),
                ("delay_minutes", models.IntegerField()),
                ("partition", models.IntegerField()),
                ("record_offset", models.BigIntegerField()),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                own,
            ],
            options={"db_table": table},
        )
        for name, table, own in (
            ("Rebooking", "flights_rebooking", ("priority", models.SmallIntegerField())),
            ("StandbyCall", "flights_standby_call", ("reason", models.CharField(max_length=20))),
        )
    ]
