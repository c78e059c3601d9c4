"""The whole chain: sweep, law, circuits against the solved cells, design space, report."""
