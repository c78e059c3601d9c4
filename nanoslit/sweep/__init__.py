"""Many cases: plan, dispatch, catalogue."""
