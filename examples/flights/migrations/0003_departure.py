"""The departures board."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("flights", "0002_delays")]

    operations = [
        migrations.CreateModel(
            name="Departure",
            fields=[
                ("id", models.TextField(db_collation="C", primary_key=True, serialize=False)),
                ("scheduled_at", models.DateTimeField()),
                ("flight", models.TextField()),
                ("origin", models.TextField()),
                ("destination", models.TextField()),
                ("delay_minutes", models.IntegerField(null=True)),
            ],
            options={
                "db_table": "flights_departure",
                "ordering": ["-scheduled_at", "id"],
                "indexes": [models.Index(fields=["-scheduled_at", "id"], name="flights_departure_newest")],
            },
        ),
    ]
