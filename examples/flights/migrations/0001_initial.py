"""The totals of the flights example."""

from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    dependencies = []

    operations = [
        migrations.CreateModel(
            name="AircraftTotal",
            fields=[
                ("departures", models.BigIntegerField()),
                ("delay_minutes", models.BigIntegerField()),
                ("cancelled", models.BigIntegerField()),
                ("aircraft", models.CharField(max_length=20, primary_key=True, serialize=False)),
            ],
            options={"db_table": "flights_aircraft_total"},
        ),
        migrations.CreateModel(
            name="CarrierTotal",
            fields=[
                ("departures", models.BigIntegerField()),
                ("delay_minutes", models.BigIntegerField()),
                ("cancelled", models.BigIntegerField()),
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "carrier", "partition", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("carrier", models.CharField(max_length=10)),
                ("partition", models.IntegerField()),
            ],
            options={"db_table": "flights_carrier_total"},
        ),
    ]
