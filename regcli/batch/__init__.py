"""Many pairs registered side by side, with a journal that lets an interrupted run go on."""
