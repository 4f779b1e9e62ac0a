"""`/metrics`: what is counted and measured, and its text.

definitions    every metric: name, help, labels and their values
series         what a metric is, and the functions that list its label values
registry       the counters and histograms of the process
selection      which apps and clients have series of their own
counters       counts events where they happen
readings       what Redis knows of the apps, read periodically by one receiver for all
app_reading    what it knows of one app
turns          whose turn it is to be read                            (pure)
worst          the apps that are shown of a large fleet               (pure)
quiet_periods  how long a provider usually sends nothing               (pure)
exposition     turns the numbers into text
"""
