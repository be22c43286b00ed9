"""What a run costs: energy = action counts x table, area = inventory x table, every price with its source.

Counting is the simulator's business and pricing is done here, so stored counts can be priced again with another table.
The figures of a single memory are in :func:`archsim.cost.sram.sram`.
"""

from archsim.cost.pricing import (
    AreaRow,
    EnergyRow,
    PartRow,
    PriceRow,
    area_rows,
    energy_rows,
    part_rows,
    price_rows,
    slow_memories,
)
from archsim.cost.table import CostTable, load_table, table_file, table_names

__all__ = [
    "AreaRow",
    "CostTable",
    "EnergyRow",
    "PartRow",
    "PriceRow",
    "area_rows",
    "energy_rows",
    "load_table",
    "part_rows",
    "price_rows",
    "slow_memories",
    "table_file",
    "table_names",
]
