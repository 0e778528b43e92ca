"""What processes report of their executors."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("scheduling", "0003_background")]

    operations = [
        migrations.CreateModel(
            name="ExecutorReport",
            fields=[
                ("id", models.UUIDField(primary_key=True, serialize=False)),
                ("host", models.CharField(max_length=200)),
                ("pid", models.IntegerField()),
                ("kind", models.CharField(max_length=30)),
                ("at", models.DateTimeField()),
                ("executors", models.JSONField()),
            ],
        ),
    ]
