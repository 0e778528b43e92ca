"""The table of effects."""

from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Effect",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("name", models.CharField(max_length=100)),
                ("kind", models.CharField(max_length=10)),
                ("record_key", models.CharField(max_length=100)),
                ("partition", models.IntegerField()),
                ("record_offset", models.BigIntegerField()),
                ("worker", models.IntegerField()),
            ],
            options={"db_table": "effects_effect"},
        ),
    ]
