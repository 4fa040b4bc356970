"""Finished runs become tables, curves and aggregate metrics."""
