"""Table 2: parameters and FLOPs of the four STU-Nets.

Command: `stunet experiment run table2`
Cost: a few seconds of CPU; no data.
Expected: all 8 numbers equal to the paper's last digit.
"""

from stunet.experiments.counting import cost_experiment

EXPERIMENT = cost_experiment(
    name="table2",
    title="Parameters and FLOPs of STU-Net S, B, L and H",
    shows="STU-Net scales from 14 million to 1.4 billion parameters.",
    source="Table 2, section 3.3",
    systems=(("STU-Net-S", "small"), ("STU-Net-B", "base"), ("STU-Net-L", "large"), ("STU-Net-H", "huge")),
)
