"""Reading and writing files: on disks, in object stores, atomically, and with retries."""
