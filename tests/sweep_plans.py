"""Plans of tests: points of about half a second."""

CASE = """
[case.electrolyte]
ion_size = "0.4 nm"
[[case.electrolyte.ions]]
name = "K+"
charge = 1
diffusivity = "2e-9 m^2/s"
concentration = "1 mol/L"
[[case.electrolyte.ions]]
name = "Cl-"
charge = -1
diffusivity = "2e-9 m^2/s"
concentration = "1 mol/L"
[case.geometry]
kind = "nanoslit-network"
slit_size = "1.5 nm"
sheet_length = "6 nm"
opening = "1 nm"
sheets = 1
reservoir = "4 nm"
[case.protocol]
kind = "cyclic-voltammetry"
lower = "0 V"
upper = "0.1 V"
scan_rate = "1e6 V/s"
cycles = 1
[case.numerics]
mesh = "coarse"
"""


def sweep_plan(slits, name="tiny", more=""):
    """Return the text of a plan over slit sizes."""
    sizes = ", ".join(f'"{d} nm"' for d in slits)
    return f'name = "{name}"\n[axes]\ngeometry.slit_size = [{sizes}]\n{more}\n{CASE}'
