"""The rules: evidence in, findings out. Nothing here looks at the machine.

There is a function for each code. Each judges for itself, so that two faults give two findings. A
cause that keeps every datagram of what was asked away is an error; one that may be the cause, or
does harm some day, a warning; what is only worth knowing is an info.
"""
