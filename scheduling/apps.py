"""The Django app of locks, scheduled tasks and background work."""

from django.apps import AppConfig


class SchedulingConfig(AppConfig):
    name = "scheduling"

    def ready(self) -> None:
        """Registers the checks, what gives replayed background work back, and what each process has of executors."""
        from brokers import processes
        from brokers.replays import tasks
        from scheduling import checks  # noqa: F401 - importing registers
        from scheduling.executors import reporter

        tasks.register("scheduling.durable.replaying.give_back")
        processes.attend(reporter)
