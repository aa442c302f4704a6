import sys

from serving_app.cli import main

sys.exit(main())
