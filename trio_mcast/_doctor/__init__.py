"""Why nothing arrives: evidence is gathered, rules judge it.

`snapshot` reads what this machine says of itself, `watch` joins and sees what becomes of datagrams.
Both only fill in values of `evidence`, which can be saved and loaded; `findings` holds the rules,
one for each code, which see nothing but such values. `diagnosis` gathers what is needed to answer
a question, and `public` is what programs call.
"""
