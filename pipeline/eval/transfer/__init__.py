"""Linear transfer of a frozen backbone to eleven data sets (Ericsson et al. 2021)."""
