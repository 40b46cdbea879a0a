"""gapctl's charts, one file each: polars frames and words in, an Altair chart out; they read nothing and judge nothing."""
