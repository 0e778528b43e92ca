"""What no worker was told of is found among any number of runs that wait for one."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("scheduling", "0004_executor_reports"),
    ]

    operations = [
        migrations.RemoveIndex("run", "run_ready"),
        migrations.AddIndex(
            "run",
            models.Index(condition=models.Q(("state", "ready")), fields=["rung_at", "next_at"], name="run_ready"),
        ),
    ]
