"""Files of a bundle on an Android device, through adb and LiteRT's `benchmark_model`.

client.py talks to adb, states.py reads what the device says of itself, tool.py knows
the tool's flags and what it prints, bench.py puts them together, answers.py compares
what came out with golden/.

Here all of it was tested against a fake adb only; no device was at hand.
"""
