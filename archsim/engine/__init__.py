"""When it happens: one order of events, two engines that implement it independently."""
