"""The web page:  python app.py --port 7860"""

import sys

from dpo_lite.cli import main

if __name__ == "__main__":
    main(["ui", *sys.argv[1:]])
