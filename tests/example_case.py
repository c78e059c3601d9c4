"""The case file that every version must accept as it stands."""

EXAMPLE = """
name = "example"
[electrolyte]
permittivity = 78.5
temperature = "298.15 K"
ion_size = "0.4 nm"
[[electrolyte.ions]]
name = "K+"
charge = 1
diffusivity = "2e-9 m^2/s"
concentration = "1 mol/L"
[[electrolyte.ions]]
name = "Cl-"
charge = -1
diffusivity = "2e-9 m^2/s"
concentration = "1 mol/L"
[geometry]
kind = "nanoslit-network"
slit_size = "1.5 nm"
sheet_length = "10 nm"
sheet_thickness = "0.335 nm"
opening = "1 nm"
sheets = 3
arrangement = "staggered"
reservoir = "10 nm"
[protocol]
kind = "cyclic-voltammetry"
lower = "0 V"
upper = "0.2 V"
scan_rate = "1e5 V/s"
cycles = 2
"""
