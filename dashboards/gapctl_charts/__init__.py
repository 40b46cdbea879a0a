"""gapctl's charts, one file each: polars frames and words in, a chart out; they read nothing and judge nothing."""
