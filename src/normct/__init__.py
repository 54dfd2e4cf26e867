"""NormCT: learns what healthy head CT looks like and flags what departs from it."""

__version__ = "0.1.0"
