"""Ways to have a run trained somewhere: `local` uses child processes of this machine."""
