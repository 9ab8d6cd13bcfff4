// Compiled with one public header at a time put before it.
