from swin_transformer_pytorch.weights.report import Change, LoadReport


def test_reads_in_a_few_lines():
    report = LoadReport(
        source="swin_tiny.pth",
        format="timm",
        loaded=tuple(f"w{i}" for i in range(160)),
        resized=tuple(Change(f"layers.{i}.table", "bias table from window 7x7 to 12x12, bicubic") for i in range(12)),
        fresh=(Change("head.weight", "7 classes"), Change("head.bias", "7 classes")),
        dropped=(Change("layers.0.attn_mask", "derived"),),
        notes=("small images differ",),
    )
    assert str(report) == (
        "swin_tiny.pth (timm): 172 of 174 parameters filled\n"
        "  as they are  160\n"
        "  resized       12  layers.0.table and 11 more: bias table from window 7x7 to 12x12, bicubic\n"
        "  fresh          2  head.weight, head.bias: 7 classes\n"
        "  dropped        1  layers.0.attn_mask: derived\n"
        "  note: small images differ"
    )
