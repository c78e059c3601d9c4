"""Every drawing function: takes records, returns a figure. The one home of matplotlib."""
