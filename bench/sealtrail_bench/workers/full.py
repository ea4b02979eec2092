"""Everything on: the worker as it ships."""

from sealtrail_processor.pipeline import wiring

if __name__ == "__main__":
    wiring.run()
