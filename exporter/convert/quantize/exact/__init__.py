"""The int8 file's own integers, without writing or running the file.

`ExactSimulator` computes what LiteRT's kernels compute from a plan: those of XNNPACK for
what its delegate takes on x86, TFLite's own for the rest. docs/int8-arithmetic.md has the
formula of every operator and what was compared.
"""

from exporter.convert.quantize.exact.simulator import ExactSimulator

__all__ = ["ExactSimulator"]
