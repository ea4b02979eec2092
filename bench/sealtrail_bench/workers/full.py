"""Everything on: the worker as it ships."""

from sealtrail_processor import wiring

if __name__ == "__main__":
    wiring.run()
