"""The command line: arguments, then the public interface of the library, then text.

A command is one function in a file of its name, which `app` lists. Its docstring is its help. It
returns the exit code: 0 done, 1 nothing received or a finding; wrong usage is an exception, of
which `app` makes a line and a 2. Datagrams and results go to standard output, everything said about
them to standard error. What runs until it is interrupted does so in `output_in_background`.
"""
