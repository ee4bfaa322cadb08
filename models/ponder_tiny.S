// The bytes of models/ponder-tiny-q4_k_m.gguf, aligned for the file's own 32-byte tensor alignment (and a page, so that
// the kernel can drop what was packed).
        .section .rodata
        .balign 4096
        .global ponder_tiny_begin
ponder_tiny_begin:
        .incbin PONDER_TINY_FILE
        .global ponder_tiny_end
ponder_tiny_end:
        .byte 0
        .section .note.GNU-stack,"",%progbits
