"""What the scheduled tasks and the background export write."""

import django.db.models.deletion
import django.db.models.functions.datetime
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("flights", "0003_departure"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="DailyReport",
            fields=[
                ("day", models.DateField(primary_key=True, serialize=False)),
                ("made_at", models.DateTimeField()),
                ("flights", models.BigIntegerField()),
                ("delayed", models.BigIntegerField()),
                ("cancelled", models.BigIntegerField()),
                ("delay_minutes", models.BigIntegerField()),
                ("by_carrier", models.JSONField()),
                ("by_airport", models.JSONField()),
            ],
            options={"db_table": "flights_daily_report", "ordering": ["-day"]},
        ),
        migrations.CreateModel(
            name="Rate",
            fields=[
                ("minute", models.DateTimeField(primary_key=True, serialize=False)),
                ("departures", models.BigIntegerField()),
                ("delayed", models.BigIntegerField()),
                ("cancelled", models.BigIntegerField()),
            ],
            options={"db_table": "flights_rate"},
        ),
        migrations.CreateModel(
            name="RatePosition",
            fields=[
                ("topic", models.BigIntegerField(primary_key=True, serialize=False)),
                ("offsets", models.JSONField(default=list)),
            ],
            options={"db_table": "flights_rate_position"},
        ),
        migrations.CreateModel(
            name="Export",
            fields=[
                ("id", models.CharField(db_collation="C", max_length=64, primary_key=True, serialize=False)),
                ("call", models.BigIntegerField(null=True)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("ended_at", models.DateTimeField(null=True)),
                ("last", models.TextField(db_collation="C", default="")),
                ("chunks", models.IntegerField(default=0)),
                ("departures", models.BigIntegerField(default=0)),
                ("size", models.BigIntegerField(default=0)),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={"db_table": "flights_export", "ordering": ["-created_at", "id"]},
        ),
        migrations.CreateModel(
            name="ExportChunk",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "export_id", "number", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("number", models.IntegerField()),
                ("data", models.BinaryField()),
                (
                    "export",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="flights.export",
                    ),
                ),
            ],
            options={"db_table": "flights_export_chunk"},
        ),
        migrations.AddConstraint(
            model_name="export",
            constraint=models.UniqueConstraint(
                condition=models.Q(("ended_at__isnull", True)), fields=("user",), name="flights_export_one_at_a_time"
            ),
        ),
    ]
