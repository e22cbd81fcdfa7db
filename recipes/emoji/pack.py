"""Pack the emoji sources (SVG text, 3-D WebP, captions)."""
import json, lzma, pathlib, pickle, re, sys
D = pathlib.Path('node_modules')
OUT = pathlib.Path(sys.argv[1])
eb = json.load(open(D/'emojibase-data/en/data.json'))
lab, tags = {}, {}
norm = lambda h: h.lower().replace('-fe0f', '')
for e in eb:
    lab[norm(e['hexcode'])] = e['label']; tags[norm(e['hexcode'])] = e.get('tags', [])
    for s in e.get('skins', []):
        lab[norm(s['hexcode'])] = s['label']; tags[norm(s['hexcode'])] = e.get('tags', [])
slug = lambda s: re.sub(r'[^a-z0-9]+', '-', s.lower()).strip('-')
bytags = {slug(lab[h]): tags[h] for h in lab}
STYLES = {'fluent-emoji-flat': 'fluent flat', 'noto': 'noto', 'noto-v1': 'blob', 'twemoji': 'twemoji',
          'fxemoji': 'firefox', 'emojione': 'emojione', 'openmoji': 'openmoji'}
items = []
TONE = re.compile(r'(light|medium|dark)[ -]?(light|dark)? ?skin tone')
for s, style in STYLES.items():
    j = json.load(open(D/f'@iconify-json/{s}/icons.json'))
    cf = D/f'@iconify-json/{s}/chars.json'
    ch = {v: norm(k) for k, v in json.load(open(cf)).items()} if cf.exists() else {}
    w0, h0 = j.get('width', 16), j.get('height', 16)
    for name, ic in j['icons'].items():
        if ic.get('hidden'): continue
        w, h = ic.get('width', w0), ic.get('height', h0); l, t = ic.get('left', 0), ic.get('top', 0)
        svg = f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="{l} {t} {w} {h}" width="256" height="256">{ic["body"]}</svg>'
        hx = ch.get(name)
        label = lab.get(hx) or name.replace('-', ' ')
        tg = tags.get(hx) or bytags.get(slug(name), [])
        items.append(dict(style=style, label=label.lower(), tags=[str(x).lower() for x in tg], svg=svg))
for f in sorted((D/'@lobehub/fluent-emoji-3d/assets').glob('*.webp')):
    hx = norm(f.stem)
    if hx not in lab: continue
    items.append(dict(style='fluent 3d', label=lab[hx].lower(), tags=[str(x).lower() for x in tags[hx]], webp=f.read_bytes()))
for it in items:
    it['tone'] = bool(TONE.search(it['label']))
from collections import Counter
print(Counter(i['style'] for i in items), sum(i['tone'] for i in items), len(items))
webps = [i.pop('webp', None) for i in items]
pickle.dump(webps, open(OUT/'webp.pkl', 'wb'))
open(OUT/'items.xz', 'wb').write(lzma.compress(pickle.dumps(items), preset=4))
