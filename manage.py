#!/usr/bin/env python
"""Django's command line for Waystation: `python manage.py help` lists the commands."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "messaging_site.settings")
    from django.core.management import execute_from_command_line

    from messaging_site.environment import EXIT_CODE, Refusal

    try:
        execute_from_command_line(sys.argv)
    except Refusal as refusal:
        print(f"waystation: {refusal}", file=sys.stderr)
        sys.exit(EXIT_CODE)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
