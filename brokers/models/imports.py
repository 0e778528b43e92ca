"""How far the imports of files have come: what lets an interrupted one go on where it stopped."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now


class FileImport(models.Model):
    """One file on its way into one topic, known by what it holds.

    No foreign key to the topic: deleting a topic must not wait for an import of it.
    """

    topic_id = models.BigIntegerField()
    content_sha256 = models.BinaryField()
    file_format = models.CharField(max_length=8)
    key_column = models.CharField(max_length=500, default="")
    """The column or member that holds the key; empty for none."""
    records_done = models.BigIntegerField(default=0, db_default=0)
    """Records at the file's beginning that are in the topic: written in the transactions that published them."""
    started_at = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "brokers_file_import"
        constraints = [
            models.UniqueConstraint(
                fields=["topic_id", "content_sha256", "file_format", "key_column"],
                name="brokers_file_import_by_content",
            ),
        ]

    def __str__(self) -> str:
        return f"{bytes(self.content_sha256).hex()[:12]} into topic {self.topic_id}: {self.records_done}"
