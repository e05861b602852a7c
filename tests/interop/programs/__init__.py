"""
Mail programs as their makers ship them, each completing a synchronisation with an IMAP server.

A L{Program<tests.interop.programs.program.Program>} is run against a L{Target<tests.interop.programs.target.Target>}, directly
or through something in the middle, and gives a L{Result<tests.interop.programs.result.Result>}: what it brought, and what the
server had afterwards.  Two runs from the same start have equal results, unless the thing in the middle did something.
"""
