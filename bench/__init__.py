"""The benchmark: taskqueue, its peers and the broker's own limit, side by side on the same work.

Run by `make bench`; docs/performance.rst says how each figure is measured and what it means. No peer is a dependency
of the product: they live in a virtual environment of their own.
"""
